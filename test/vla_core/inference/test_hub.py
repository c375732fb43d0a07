# SPDX-License-Identifier: MIT
"""The hub's own library against a server that answers as the hub does."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vla_core.errors import ConfigError
from vla_core.inference import hub
from vla_core.inference.checkpoint_files import find_checkpoint

_SHA = "0123456789abcdef0123456789abcdef01234567"
_PUSH = "from vla_core.cli import main; import sys; sys.exit(main())"
_FIND = """
import sys
from vla_core.inference.checkpoint_files import find_checkpoint
print(find_checkpoint(sys.argv[1]))
"""


class _Hub(BaseHTTPRequestHandler):
    """Keeps the files of one repository."""

    files: dict[str, bytes]
    requests: list[str]

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append(f"{self.path} {self.headers.get('Authorization')}")
        if self.path == "/api/repos/create":
            self._answer({"url": f"{self._address()}/me/arm", "name": "me/arm"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self._address()}/me/arm/commit/{_SHA}"
            self._answer({"success": True, "commitOid": _SHA, "commitUrl": url})
        else:
            self.send_error(404)

    def do_GET(self):
        self.requests.append(self.path)
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/me/arm/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            self._answer({"id": "me/arm", "sha": _SHA, "siblings": siblings})
        elif self.path.startswith(f"/api/models/me/arm/tree/{_SHA}"):
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
            self._answer(files)
        elif self.path.startswith(f"/me/arm/resolve/{_SHA}/") and name in self.files:
            self._send(self.files[name])
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments):
        """Keep the output of the tests clean."""

    def _address(self):
        return f"http://{self.headers['Host']}"

    def _answer(self, value):
        self._send(json.dumps(value).encode())

    def _send(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content) & 0xFFFFFFFF:08x}"')
        self.send_header("X-Repo-Commit", _SHA)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def server():
    handler = type("Hub", (_Hub,), {"files": {}, "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def run(server, tmp_path):
    """Return a function that runs Python code with arguments, for which the server is the hub."""
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_token",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }

    def run(code, *arguments):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    for name in ("config.json", "processing.json", "training.json"):
        (folder / name).write_text(f'{{"of": "{name}"}}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "secret.txt").write_text("not a part of the checkpoint")
    return folder


def test_pushed_checkpoint_is_found_by_its_name_on_the_hub(server, run, checkpoint):
    pushed = run(_PUSH, "push", str(checkpoint), "hf:me/arm@main")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip().endswith(f"/me/arm/commit/{_SHA}")
    handler = server.RequestHandlerClass
    assert "/api/models/me/arm/commit/main Bearer hf_token" in handler.requests
    assert "secret.txt" not in handler.files
    found = run(_FIND, "hf:me/arm@v1")
    assert found.returncode == 0, found.stderr
    assert "/api/models/me/arm/revision/v1" in handler.requests
    with open(f"{found.stdout.strip()}/model.safetensors", "rb") as file:
        assert file.read() == bytes(range(256))


def test_name_that_the_hub_does_not_know_says_what_to_look_at(run):
    found = run(_FIND, "hf:you/arm")
    assert "checkpoint 'hf:you/arm' cannot be downloaded" in found.stderr
    assert "name, revision and network" in found.stderr


def test_hub_that_cannot_be_reached_says_what_to_look_at(server, run, checkpoint):
    server.shutdown()
    server.server_close()
    pushed = run(_PUSH, "push", str(checkpoint), "hf:me/arm")
    assert pushed.returncode == 2
    assert "cannot be uploaded to 'hf:me/arm'" in pushed.stderr
    assert "Traceback" not in pushed.stderr
    assert "name, revision and network" in run(_FIND, "hf:me/arm").stderr


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:me/groot-sim", ("me/groot-sim", None)),
        ("hf:me/a.b_c@v1.0", ("me/a.b_c", "v1.0")),
        ("hf:me/a@refs/pr/1", ("me/a", "refs/pr/1")),
    ],
)
def test_name_has_repository_and_revision(name, parts):
    assert hub.parse_hub_name(name) == parts


@pytest.mark.parametrize("name", ["hf:groot", "hf:a/b/c", "hf:a/b@", "me/groot", "hf:/b"])
def test_name_of_another_form_is_refused(name):
    with pytest.raises(ConfigError, match="must be hf:owner/name"):
        hub.parse_hub_name(name)


def test_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'vla_core\[hub\]'"):
        find_checkpoint("hf:me/arm")
