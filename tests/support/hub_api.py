"""How a stand-in Hub answers each kind of request that it knows."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from .hub_store import Commit, ConflictError, Repository, UnknownObjectError


class Answers:
    """The part of the server's handler that speaks the Hub's language; ``send`` and ``refuse`` are the other's."""

    def on_whoami(self, request: Any, names: Any) -> None:
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        self.send(200, {"type": "user", "name": self.hub.users[request.token], "orgs": [], "auth": auth})

    def on_create(self, request: Any, names: Any) -> None:
        wish = json.loads(request.body)
        owner = self.hub.users[request.token]
        repo = f"{wish.get('organization') or owner}/{wish['name']}"
        url = f"{self.hub.url}/datasets/{repo}"
        if not repo.startswith(f"{owner}/"):
            return self.refuse(403, "")
        if repo in self.hub.store.repositories:
            return self.send(409, {"error": "You already created this dataset repo", "url": url})
        private = bool(wish.get("private")) or wish.get("visibility") == "private"
        self.hub.store.repositories[repo] = Repository(private=private)
        return self.send(200, {"url": url, "name": repo, "id": repo})

    def on_yaml(self, request: Any, names: Any) -> None:
        self.send(200, {"errors": [], "warnings": []})

    def on_settings(self, request: Any, repository: Repository, commit: Commit, names: Any) -> None:
        wish = json.loads(request.body)
        repository.gated = bool(wish.get("gated", repository.gated))
        if "visibility" in wish or "private" in wish:
            repository.private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.send(200, {})

    def on_refs(self, request: Any, repository: Repository, commit: Commit, names: Any) -> None:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": head.oid}
            for name, head in repository.branches.items()
        ]
        self.send(200, {"branches": branches, "tags": [], "converts": []})

    def on_branch(self, request: Any, repository: Repository, commit: Commit | None, names: Any) -> None:
        if names["revision"] in repository.branches:
            return self.refuse(409, "")
        repository.branches[names["revision"]] = repository.branches["main"]
        return self.send(200, {})

    def on_info(self, request: Any, repository: Repository, commit: Commit, names: Any) -> None:
        info = {"_id": "0" * 24, "id": names["repo"], "sha": commit.oid, "lastModified": commit.date, "tags": []}
        info |= {"private": repository.private, "gated": "auto" if repository.gated else False, "disabled": False}
        info |= {"downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in sorted(commit.files)]}
        self.send(200, info)

    def on_preupload(self, request: Any, repository: Repository, commit: Commit, names: Any) -> None:
        answers = []
        for file in json.loads(request.body)["files"]:
            is_large = commit.is_large(file["path"], file["size"])
            old = commit.files.get(file["path"])
            answer = {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            answers.append({**answer, "oid": old.etag if old else None})
        self.send(200, {"files": answers, "commitOid": commit.oid})

    def on_lfs_batch(self, request: Any, repository: Repository, commit: Commit, names: Any) -> None:
        answers = [self._plan_upload(item) for item in json.loads(request.body)["objects"]]
        self.send(200, {"transfer": "basic", "objects": answers})

    def _plan_upload(self, item: dict[str, Any]) -> dict[str, Any]:
        oid, size, piece = item["oid"], item["size"], self.hub.piece_bytes
        if oid in self.hub.store.blobs:
            return {"oid": oid, "size": size}
        base, secret = f"{self.hub.url}/lfs/{oid}", f"?X-Amz-Signature={self.hub.signature}"
        upload: dict[str, Any] = {"href": base + secret}
        if size > piece:
            count = -(-size // piece)
            urls = {f"{number + 1:05d}": f"{base}/{number}{secret}" for number in range(count)}
            upload = {"href": f"{base}/join/{count}{secret}", "header": {"chunk_size": str(piece), **urls}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{base}/verify"}}}

    def on_lfs_put(self, request: Any, names: dict[str, str]) -> None:
        if "piece" in names:
            self.hub.store.pieces[names["oid"], int(names["piece"])] = request.body
        elif not self.hub.store.put(names["oid"], request.body):
            return self.refuse(400, "")
        return self.send(200, b"", {"ETag": hashlib.md5(request.body).hexdigest()})

    def on_lfs_join(self, request: Any, names: dict[str, str]) -> None:
        self.send(200 if self.hub.store.join(names["oid"], int(names["piece"])) else 400, {})

    def on_lfs_verify(self, request: Any, names: dict[str, str]) -> None:
        self.send(200 if names["oid"] in self.hub.store.blobs else 404, {})

    def on_commit(self, request: Any, repository: Repository, commit: Commit, names: dict[str, str]) -> None:
        try:
            new = self.hub.store.commit(repository, names["revision"], request.body)
        except ConflictError:
            return self.send(412, {"error": "A commit has happened since. Please refresh and try again."})
        except (UnknownObjectError, KeyError):
            return self.refuse(400, "")
        url = f"{self.hub.url}/datasets/{names['repo']}/commit/{new.oid}"
        return self.send(200, {"success": True, "commitOid": new.oid, "commitUrl": url, "hookOutput": ""})

    def on_tree(self, request: Any, repository: Repository, commit: Commit, names: dict[str, str]) -> None:
        recursive = request.query.get("recursive", [""])[0].lower() in {"true", "1"}
        items = commit.listing(names.get("path", ""), recursive)
        if names.get("path") and not items:
            return self.refuse(404, "EntryNotFound")
        begin = int(request.query.get("cursor", ["0"])[0])
        end = begin + self.hub.page_rows
        headers = {}
        if end < len(items):
            target = f"{self.hub.url}{urlsplit(request.path).path}?recursive={recursive}&cursor={quote(str(end))}"
            headers["Link"] = f'<{target}>; rel="next"'
        return self.send(200, items[begin:end], headers)

    def on_paths(self, request: Any, repository: Repository, commit: Commit, names: dict[str, str]) -> None:
        text = request.body.decode()
        wish = json.loads(text) if text.startswith("{") else parse_qs(text)
        self.send(200, list(commit.describe_paths(wish.get("paths", []))))

    def on_resolve(self, request: Any, repository: Repository, commit: Commit, names: dict[str, str]) -> None:
        entry = commit.files.get(names["path"])
        headers = {"X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if entry is None:
            return self.send(404, b"", {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": "not found"})
        headers["ETag"] = f'"{entry.etag}"'
        data, status = entry.data, 200
        if entry.is_lfs:
            headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(len(data))}
        if request.method == "GET" and (found := re.fullmatch(r"bytes=(\d*)-(\d*)", request.range or "")):
            first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
            last = min(int(found[2]) if found[1] and found[2] else len(data) - 1, len(data) - 1)
            if first > last:
                return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        return self.send(status, data, headers)
