"""Loading script for `datasets` 3.6, where `load_dataset("sa1b.py", trust_remote_code=True)` runs it.

On later versions `import sa1b_hf` alone makes the same line work. All the code is in the package.
"""

import sa1b_hf.sa1b


class SA1B(sa1b_hf.sa1b.SA1B):
    """SA-1B from its original shards."""
