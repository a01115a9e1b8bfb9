"""The builder for SA-1B that one writes after an hour with the manual of `datasets`: the peer of ours."""

from __future__ import annotations

import json
from pathlib import Path

import datasets

from sa1b_hf import sa1b_features


class NaiveSA1B(datasets.GeneratorBasedBuilder):
    VERSION = datasets.Version("1.0.0")

    def _info(self):
        return datasets.DatasetInfo(features=sa1b_features())

    def _split_generators(self, dl_manager):
        archives = dl_manager.download(self.config.data_files["train"])
        return [
            datasets.SplitGenerator(
                name=datasets.Split.TRAIN,
                gen_kwargs={
                    "shards": [Path(archive).stem for archive in archives],
                    "archives": [dl_manager.iter_archive(archive) for archive in archives],
                },
            )
        ]

    def _generate_examples(self, shards, archives):
        for shard, archive in zip(shards, archives, strict=True):
            images, documents = {}, {}
            for path, file in archive:
                name = Path(path)
                if name.suffix == ".jpg":
                    images[name.stem] = file.read()
                elif name.suffix == ".json":
                    documents[name.stem] = json.load(file)
                if name.stem in images and name.stem in documents:
                    image, document = images.pop(name.stem), documents.pop(name.stem)
                    yield (
                        name.stem,
                        {
                            "image": {"bytes": image, "path": f"{name.stem}.jpg"},
                            **document["image"],
                            "shard": shard,
                            "annotations": document["annotations"],
                        },
                    )
