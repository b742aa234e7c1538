"""Certificates for tests, signed by themselves."""

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class MadeCertificate(NamedTuple):
    """The two PEM files."""

    chain: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """The context of a client that trusts this one alone."""
        return ssl.create_default_context(cafile=self.chain)


def made_certificate(folder: Path, *options: str) -> MadeCertificate:
    """One for 127.0.0.1, in place of what is in `folder`.

    Args:
        options: more of `openssl req`.
    """
    made = MadeCertificate(folder / "cert.pem", folder / "key.pem")
    encrypt = [] if "-passout" in options else ["-nodes"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-out", str(made.chain), "-keyout", str(made.key), *encrypt, *options),
        ],
        check=True,
        capture_output=True,
    )
    return made
