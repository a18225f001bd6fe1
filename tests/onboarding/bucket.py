"""S3 on loopback: moto's server, behind a proxy that hangs for some prefixes when told to."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "tenants"
BACKEND = "storages.backends.s3.S3Storage"


class HangingS3(ThreadingHTTPServer):
    """Passes requests on to moto, except those for prefixes in `hang_for`: they get no answer."""

    daemon_threads = True

    def __init__(self, moto: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.moto = moto
        self.hang_for: set[str] = set()
        self.hanging = 0
        self.released = threading.Event()

    @property
    def options(self) -> dict[str, str]:
        """TENANT_STORAGE_OPTIONS."""
        return {
            "bucket_name": BUCKET,
            "endpoint_url": f"http://127.0.0.1:{self.server_port}",
            "region_name": "us-east-1",
            "access_key": "test",
            "secret_key": "test",
            "addressing_style": "path",
        }


class Handler(BaseHTTPRequestHandler):
    server: HangingS3
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if any(f"/{prefix}/" in self.path for prefix in self.server.hang_for):
            self.server.hanging += 1
            self.server.released.wait(30)
            self.close_connection = True
            return
        connection = http.client.HTTPConnection(*self.server.moto)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "content-length", "date", "server"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *args) -> None:
        pass


@contextmanager
def s3() -> Iterator[HangingS3]:
    """A bucket, empty."""
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    with HangingS3(moto.get_host_and_port()) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        client = boto3.client(
            "s3", endpoint_url=proxy.options["endpoint_url"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)
        yield proxy
        proxy.released.set()
        proxy.shutdown()
    moto.stop()
