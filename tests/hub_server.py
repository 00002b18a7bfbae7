# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A Hub on 127.0.0.1 for tests: enough of the protocol for the real huggingface_hub and datasets clients, with faults.

Repositories live in memory: creation, metadata validation, preupload, the LFS batch with its PUT, the NDJSON commit,
information, tree, paths, refs, and `resolve` with ETag, X-Repo-Commit, Range and the redirect of large files. A commit
is all or nothing, as on the Hub. Left out: Xet (the batch answers "basic"), pull requests, spaces, git.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.utils import validate_repo_id


TOKEN = "hf_" + "WriteTokenOfTheLoopbackHub12345678"
READ_TOKEN = "hf_" + "ReadTokenOfTheLoopbackHub123456789"
USER = "tester"
LFS_SUFFIXES = (".safetensors", ".parquet", ".png", ".gif", ".bin", ".pt", ".pth", ".pkl", ".zip")


@dataclass
class Fault:
    """
    What goes wrong, how often.

    Args:
        method (`str`), path (`str`):
            Request method, and a regular expression searched in its path.
        status (`int`, *optional*):
            Answer with this instead.
        cut (`bool`, *optional*):
            Read half of the body, then cut the connection.
        lost (`bool`, *optional*):
            Do what was asked, but cut the connection in the middle of the answer.
        delay (`float`, *optional*):
            Answer this many seconds late.
        times (`int`, *optional*, defaults to `1`):
            How many requests it hits.
        headers (`dict[str, str]`, *optional*):
            Of the answer with `status`.
    """

    method: str
    path: str
    status: int | None = None
    cut: bool = False
    lost: bool = False
    delay: float = 0.0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Blob:
    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid

    def info(self, path: str) -> dict:
        lfs = {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}
        return {"type": "file", "path": path, "size": len(self.data), "oid": self.oid} | (
            {"lfs": lfs} if self.is_lfs else {}
        )


@dataclass
class Repo:
    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit({".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)})

    def commit(self, files: dict[str, Blob]) -> str:
        oid = hashlib.sha1(f"{self.kind}/{self.name}/{len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = files
        return oid

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, Blob]:
        return self.commits[self.head]


class HubServer(ThreadingHTTPServer):
    """The server; `with HubServer() as hub:` runs it in a thread."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that goes away in the middle is what some tests are about."""

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, pattern: str) -> int:
        """How many requests were made whose path matches."""
        return sum(made == method and bool(re.search(pattern, path)) for made, path in self.requests)


class _HttpError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        path = unquote(url.path)
        fault = self.server.fault_for(self.command, path)
        if fault is not None and fault.cut:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            # Closed with a reset, as by a network that fails.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.lost = fault is not None and fault.lost
        self.body = self._read_body()
        if fault is not None:
            time.sleep(fault.delay)
        if fault is not None and fault.status is not None:
            self._json({"error": f"fault {fault.status}"}, fault.status, fault.headers)
            return
        try:
            self._route(path)
        except _HttpError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._json({"error": str(error)}, error.status, headers)

    do_HEAD = do_POST = do_PUT = do_GET

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().strip(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if self.lost else data)
        self.close_connection |= self.lost

    def _json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    # -- who asks, for what

    @property
    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _check_writer(self) -> None:
        if self._token not in (TOKEN, READ_TOKEN):
            raise _HttpError(401, "", "Invalid credentials in Authorization header")
        if self._token == READ_TOKEN:
            raise _HttpError(403, "", "You don't have the rights to write to this repository")

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.server.repos.get((kind, name))
        if repo is None or (repo.private and self._token not in (TOKEN, READ_TOKEN)):
            raise _HttpError(401 if self._token is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def _revision(self, repo: Repo, revision: str) -> str:
        if revision == "main":
            return repo.head
        if revision not in repo.commits:
            raise _HttpError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return revision

    def _route(self, path: str) -> None:
        if path == "/api/whoami-v2":
            if self._token not in (TOKEN, READ_TOKEN):
                raise _HttpError(401, "", "Invalid credentials in Authorization header")
            self._json({"type": "user", "name": USER, "orgs": [{"name": "org"}], "auth": {"type": "access_token"}})
        elif path == "/api/repos/create":
            self._create()
        elif path == "/api/validate-yaml":
            self._validate()
        elif match := re.fullmatch(r"/(datasets/)?(.+)\.git/info/lfs/objects/batch", path):
            self._batch()
        elif match := re.fullmatch(r"/lfs/(\w+)", path):
            if hashlib.sha256(self.body).hexdigest() != match[1]:
                raise _HttpError(400, "", "the content is not that of the oid")
            self.server.lfs[match[1]] = self.body
            self._answer(b"")
        elif match := re.fullmatch(r"/cdn/(\w+)", path):
            self._content(self.server.lfs[match[1]], {"ETag": f'"{match[1]}"'})
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(self._repo("dataset" if match[1] else "model", match[2]), match[3], match[4])
        elif match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/([\w-]+)(?:/([^/]+))?(?:/(.+))?)?", path):
            kind, name, verb, revision, rest = match.groups()
            self._api(self._repo(kind, name), verb, revision, rest)
        else:
            raise _HttpError(404, "", f"the loopback Hub has no {self.command} {path}")

    # -- writing

    def _create(self) -> None:
        self._check_writer()
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or USER}/{wanted['name']}"
        kind = wanted.get("type", "model")
        url = f"{self.server.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        with self.server.lock:
            if (kind, name) in self.server.repos:
                self._json({"error": "You already created this repo", "url": url}, 409)
                return
            self.server.repos[kind, name] = Repo(kind, name, wanted.get("visibility") == "private")
        self._json({"url": url, "name": name, "id": name})

    def _validate(self) -> None:
        wanted = json.loads(self.body)
        card = ModelCard if wanted["repoType"] == "model" else DatasetCard
        errors = []
        try:
            data = card(wanted["content"]).data.to_dict()
            for name in ("base_model", "datasets"):
                for repo_id in [data[name]] if isinstance(data.get(name), str) else data.get(name, []):
                    validate_repo_id(repo_id)
        except (ValueError, yaml.YAMLError) as error:
            errors.append({"message": str(error)})
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _batch(self) -> None:
        self._check_writer()
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.lfs:
                answer["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repo.commits[self._revision(repo, revision)])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.lfs:
                    raise _HttpError(400, "", f"the content of {value['path']} was not uploaded")
                files[value["path"]] = Blob(self.server.lfs[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(files)
        prefix = "datasets/" if repo.kind == "dataset" else ""
        url = f"{self.server.url}/{prefix}{repo.name}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    # -- reading

    def _api(self, repo: Repo, verb: str | None, revision: str | None, rest: str | None) -> None:
        if verb in ("preupload", "commit"):
            self._check_writer()
        if verb is None or verb == "revision":
            oid = self._revision(repo, revision or "main")
            siblings = [{"rfilename": path} | self._blob(blob) for path, blob in repo.commits[oid].items()]
            content = {"id": repo.name, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []}
            self._json({**content, "disabled": False, "gated": False, "downloads": 0, "likes": 0})
        elif verb == "preupload":
            files = []
            for wanted in json.loads(self.body)["files"]:
                there = repo.files.get(wanted["path"])
                mode = "lfs" if wanted["path"].endswith(LFS_SUFFIXES) else "regular"
                oid = there.etag if there is not None else None
                files.append({"path": wanted["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._json({"files": files})
        elif verb == "commit":
            with self.server.lock:
                self._commit(repo, revision)
        elif verb == "tree":
            self._tree(repo.commits[self._revision(repo, revision)], rest or "")
        elif verb == "paths-info":
            files = repo.commits[self._revision(repo, revision)]
            paths = parse_qs(self.body.decode())["paths"]
            known = [files[path].info(path) for path in paths if path in files]
            folders = [path for path in paths if path not in files and any(f.startswith(f"{path}/") for f in files)]
            self._json(known + [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders])
        elif verb == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
            self._json({"branches": [branch], "converts": [], "tags": []})
        else:
            raise _HttpError(404, "", f"the loopback Hub has no {verb}")

    def _blob(self, blob: Blob) -> dict:
        lfs = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": 130}
        return {"size": len(blob.data), "blobId": blob.oid} | ({"lfs": lfs} if blob.is_lfs else {})

    def _tree(self, files: dict[str, Blob], folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in files if path.startswith(prefix)]
        if folder and not inside:
            raise _HttpError(404, "EntryNotFound", f"{folder} does not exist")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = [files[path].info(path) for path in inside if recursive or "/" not in path[len(prefix) :]]
        parents = {prefix + path[len(prefix) :].split("/")[0] for path in inside if "/" in path[len(prefix) :]}
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(parents)]
        self._json(entries)

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        oid = self._revision(repo, revision)
        blob = repo.commits[oid].get(path)
        headers = {"X-Repo-Commit": oid}
        if blob is None:
            error = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", **headers}
            self._json({"error": "Entry not found"}, 404, error)
        elif blob.is_lfs:
            self.server.lfs[blob.sha256] = blob.data
            # To another host, as on the Hub: a client takes the metadata from this answer then.
            headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))}
            self._answer(
                b"", 302, {**headers, "Location": f"http://localhost:{self.server.server_port}/cdn/{blob.sha256}"}
            )
        else:
            self._content(blob.data, {**headers, "ETag": f'"{blob.etag}"'})

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        headers = {**headers, "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self._answer(data[start:stop], 206, headers)
        else:
            self._answer(data, 200, headers)
