"""The TPM behind one typed adapter: the only room that imports tpm2_pytss.

``TSS2_LOG`` is read once, when libtss2 is loaded, so it is set here, before any import of it:
every refusal reaches the caller as an error with a reason, and stderr stays the daemon's own.
"""

import os

os.environ.setdefault("TSS2_LOG", "all+NONE")
