"""The C extensions, the one thing that setup.cfg cannot declare; each is optional at build and at run time."""

from setuptools import Extension, setup

LIMITED_API = ("Py_LIMITED_API", "0x030A0000")


def _extension(name: str) -> Extension:
    return Extension(
        f"sa1b_hf.{name}",
        [f"sa1b_hf/{name}.c"],
        define_macros=[LIMITED_API],
        py_limited_api=True,
        optional=True,  # no compiler: the package installs all the same and uses its fallbacks
    )


setup(
    ext_modules=[_extension("_json"), _extension("_rle")],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
