"""The gateway's own HTTPS and its Unix socket, as deploy/compose.{https,socket}.yml have them.

That `up --wait` ends shows that the health check asks there, too.
"""

from pathlib import Path

import httpx

from tests.certificates import made_certificate, needs_openssl
from tests.containers.composed import Composed, docker


def certificate_for_10001(folder: Path) -> Path:
    """Put a new certificate into `folder`; returns its file."""
    made = made_certificate(folder)
    made.key.chmod(0o444)
    made.key.rename(folder / "tls.key")
    return made.chain.rename(folder / "tls.crt")


@needs_openssl
def test_the_gateway_speaks_https_and_reads_renewed_certificates(
    images: None, tmp_path: Path
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    stack = Composed(tmp_path, COMPOSE_FILE="docker-compose.yml:deploy/compose.https.yml")
    stack.base_url = f"https://127.0.0.1:{stack.port}"
    stack.trust(certificate_for_10001(folder))
    with stack:
        assert stack.embed().status_code == httpx.codes.OK
        stack.trust(certificate_for_10001(folder))
        assert stack.embed().status_code == httpx.codes.OK


def test_the_gateway_listens_on_a_socket_for_the_group_of_its_folder(
    images: None, tmp_path: Path
) -> None:
    folder = tmp_path / "socket"
    folder.mkdir()
    # As documented, but for the owner, which only root may give away.
    folder.chmod(0o2777)
    with Composed(
        tmp_path, COMPOSE_FILE="docker-compose.yml:deploy/compose.socket.yml", API_KEYS=""
    ) as stack:
        (gateway,) = stack.containers("gateway")
        assert docker("port", gateway) == ""
        socket = folder / "gateway.sock"
        assert (socket.stat().st_mode & 0o777, socket.stat().st_gid) == (
            0o660,
            folder.stat().st_gid,
        )
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, timeout=60) as client:
            reply = client.post("http://localhost/v1/embeddings", json={"input": "x"})
            assert reply.status_code == httpx.codes.OK
