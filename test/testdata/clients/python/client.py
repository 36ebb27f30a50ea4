"""What a program does with Docker's Python client beyond test/testdata/client.py: events, statistics, streams, sockets, files,
builds, networks, volumes. python3 client.py SOCKET VERSION"""
import hashlib
import io
import json
import socket
import sys
import tarfile
import tempfile
import threading
import time

import docker
from docker.utils.socket import frames_iter, demux_adaptor, consume_socket_output

path, version = sys.argv[1:]
c = docker.DockerClient(base_url="unix://" + path, version=version, timeout=30)
api = c.api
BOX = "kist.test/busybox"
number = tuple(int(x) for x in api.api_version.split("."))


def tar(**files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(text), 0o640, 7
            t.addfile(info, io.BytesIO(text))
    return data.getvalue()


def idle(**more):
    return c.containers.run(BOX, ["sleep", "1000"], detach=True, **more)


def events():
    since = time.time()
    seen = []
    stream = c.events(decode=True, filters={"type": "container", "label": "watched"}, since=int(since) - 1)
    reader = threading.Thread(target=lambda: [seen.append(e) for e in stream])
    reader.start()
    x = c.containers.create(BOX, ["true"], labels={"watched": ""}, name="watched")
    x.start()
    x.wait()
    x.remove()
    for _ in range(500):
        if seen and seen[-1]["Action"] == "destroy":
            break
        time.sleep(0.01)
    stream.close()
    reader.join()
    assert [e["Action"] for e in seen] == ["create", "start", "die", "destroy"], seen
    assert seen[2]["Actor"]["Attributes"]["exitCode"] == "0" and seen[0]["Actor"]["Attributes"]["name"] == "watched", seen
    if number < (1, 52):
        assert seen[0]["status"] == "create" and seen[0]["id"] == x.id, seen[0]
    again = list(c.events(decode=True, filters={"container": x.id}, since=int(since) - 1, until=time.time()))
    assert [e["Action"] for e in again] == ["create", "start", "die", "destroy"], again


def stats():
    x = c.containers.run(BOX, ["sh", "-c", "while :; do :; done"], detach=True, mem_limit="32m")
    stream = x.stats(decode=True, stream=True)
    first, second = next(stream), next(stream)
    stream.close()
    used = second["cpu_stats"]["cpu_usage"]["total_usage"] - second["precpu_stats"]["cpu_usage"]["total_usage"]
    passed = second["cpu_stats"]["system_cpu_usage"] - second["precpu_stats"]["system_cpu_usage"]
    assert 0 < used <= passed, (used, passed)
    assert second["memory_stats"]["limit"] == 32 << 20 and second["networks"]["eth0"]["rx_bytes"] >= 0, second
    assert first["id"] == x.id and first["read"] < second["read"]
    x.remove(force=True)


def logs():
    x = c.containers.run(BOX, ["sh", "-c", "for i in 1 2 3 4; do echo line $i; sleep 0.05; done; echo bad >&2"], detach=True)
    assert b"".join(x.logs(stream=True, follow=True, stderr=False)) == b"line 1\nline 2\nline 3\nline 4\n"
    x.wait()
    assert x.logs(stdout=False) == b"bad\n"
    assert x.logs(tail=2) == b"line 4\nbad\n", x.logs(tail=2)
    stamped = x.logs(timestamps=True, stderr=False).splitlines()
    assert len(stamped) == 4 and stamped[0][:2] == b"20" and stamped[0].endswith(b"Z line 1"), stamped
    assert x.logs(since=int(time.time()) + 100) == b""
    x.remove()
    t = c.containers.run(BOX, ["sh", "-c", "tty; echo done"], detach=True, tty=True)
    t.wait()
    assert t.logs() == b"/dev/pts/0\r\ndone\r\n", t.logs()
    t.remove()


def execs():
    x = idle(environment={"A": "a"})
    assert list(x.exec_run(["sh", "-c", "echo one; sleep 0.1; echo two"], stream=True).output) == [b"one\n", b"two\n"]
    assert list(x.exec_run(["sh", "-c", "echo out; echo bad >&2"], stream=True, demux=True).output) in (
        [(b"out\n", None), (None, b"bad\n")], [(None, b"bad\n"), (b"out\n", None)])
    assert x.exec_run("sh -c 'echo $A $B; pwd; id -u'", environment={"B": "b"}, workdir="/tmp", user="7").output == b"a b\n/tmp\n7\n"
    assert x.exec_run(["tty"], tty=True).output == b"/dev/pts/0\r\n"
    assert x.exec_run(["touch", "/quiet"], detach=True).output == ""
    # With input, over the connection itself.
    e = api.exec_create(x.id, ["sh", "-c", "tr a-z A-Z; exit 3"], stdin=True)
    s = api.exec_start(e["Id"], socket=True)
    raw = getattr(s, "_sock", s)
    raw.sendall(b"through\n")
    raw.shutdown(socket.SHUT_WR)
    out = consume_socket_output((demux_adaptor(*f) for f in frames_iter(s, tty=False)), demux=True)
    assert out == (b"THROUGH\n", None), out
    s.close()
    assert api.exec_inspect(e["Id"])["ExitCode"] == 3
    e = api.exec_create(x.id, ["sh", "-c", "sleep 0.2; stty size"], tty=True)
    s = api.exec_start(e["Id"], socket=True, tty=True)
    api.exec_resize(e["Id"], height=44, width=111)
    out = b"".join(chunk for _, chunk in frames_iter(s, tty=True))
    assert out == b"44 111\r\n", out
    s.close()
    try:
        api.exec_start(e["Id"])
        raise AssertionError("an exec ran twice")
    except docker.errors.APIError as err:
        assert err.status_code == 409, err
    x.remove(force=True)


def attach():
    x = c.containers.create(BOX, ["sh", "-c", "read a; echo got $a; cat >&2"], stdin_open=True, detach=True)
    s = x.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    x.start()
    raw = getattr(s, "_sock", s)
    raw.sendall(b"first\nrest")
    raw.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    x.kill()  # StdinOnce was not said: the container would wait for another who attaches.
    got = consume_socket_output((demux_adaptor(*f) for f in frames_iter(s, tty=False)), demux=True)
    assert got == (b"got first\n", b"rest"), got
    s.close()
    x.remove(force=True)
    x = idle()
    chunks = x.attach(stream=True, logs=True)
    x.kill()
    assert list(chunks) == []
    x.remove()


def files():
    x = idle()
    assert x.put_archive("/tmp", tar(**{"dir/file": b"text", "dir/other": b"more" * 10000}))
    chunks, stat = x.get_archive("/tmp/dir", encode_stream=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as t:
        assert sorted(t.getnames()) == ["dir", "dir/file", "dir/other"], t.getnames()
        assert t.extractfile("dir/other").read() == b"more" * 10000 and t.getmember("dir/file").uid == 7
    assert stat["name"] == "dir" and stat["linkTarget"] == "", stat
    assert {"Path": "/tmp/dir/file", "Kind": 1} in x.diff()
    for where in ("/nosuch", "/tmp/dir/file"):
        try:
            x.put_archive(where, tar(f=b""))
            raise AssertionError(where)
        except docker.errors.APIError as e:
            assert e.status_code in (400, 404), e
    exported = b"".join(x.export())
    with tarfile.open(fileobj=io.BytesIO(exported)) as t:
        assert t.extractfile("tmp/dir/file").read() == b"text"
    x.remove(force=True)
    image = c.images.load(b"".join(c.images.get(BOX).save(named=True)))
    assert BOX + ":latest" in image[0].tags
    api.import_image_from_data(exported, repository="py", tag="imported", changes=["CMD cat /tmp/dir/file"])
    assert c.containers.run("py:imported", remove=True) == b"text"
    c.images.remove("py:imported")


def builds():
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/Dockerfile", "w") as f:
            f.write("FROM %s AS one\nARG WHO\nRUN echo $WHO >/made\nFROM one\nCOPY data /data\nCMD cat /made /data\n" % BOX)
        for name in ("data", "left.out"):
            with open(d + "/" + name, "w") as f:
                f.write(name)
        with open(d + "/.dockerignore", "w") as f:
            f.write("*.out\n")
        image, lines = c.images.build(path=d, tag="py:ctx", buildargs={"WHO": "py"}, labels={"a": "b"}, rm=True, pull=False, nocache=True)
        assert image.labels == {"a": "b"}, image.labels
        assert any("Successfully tagged py:ctx" in x.get("stream", "") for x in lines)
        assert c.containers.run("py:ctx", remove=True) == b"py\ndata"
        target, _ = c.images.build(path=d, target="one", buildargs={"WHO": "target"}, network_mode="none", shmsize=1 << 20)
        assert c.containers.run(target.id, ["cat", "/made"], remove=True) == b"target\n"
        raw = b"".join(api.build(path=d, tag="py:raw", decode=False))
        assert all(json.loads(x) for x in raw.splitlines() if x)
        image.tag("py", "again")
        assert len(image.history()) >= 4
        for name in ("py:again", "py:raw", "py:ctx"):
            c.images.remove(name)
        c.images.remove(target.id)


def packed():
    """As buildpacks' pack exports: layers that the daemon has are empty files."""
    base = c.images.get(BOX)
    layer = tar(new=b"new")
    config = {"architecture": base.attrs["Architecture"], "os": "linux", "config": {"Cmd": ["cat", "/new"]}, "rootfs": {
        "type": "layers", "diff_ids": base.attrs["RootFS"]["Layers"] + ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
    blanks = ["blank_%d" % i for i in range(len(base.attrs["RootFS"]["Layers"]))]
    files = {"config.json": json.dumps(config).encode(), "new.tar": layer, **{name: b"" for name in blanks}}
    files["manifest.json"] = json.dumps([{"Config": "config.json", "RepoTags": ["py:packed"], "Layers": blanks + ["new.tar"]}]).encode()
    assert c.images.load(tar(**files))[0].tags == ["py:packed"]
    assert c.containers.run("py:packed", remove=True) == b"new"
    c.images.remove("py:packed")


def networks():
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.75.0.0/24", gateway="10.75.0.1")])
    n = c.networks.create("py", driver="bridge", ipam=pool, labels={"of": "py"}, internal=True, attachable=True, check_duplicate=True)
    a, b = idle(network="py", name="pya"), idle(name="pyb")
    n.connect(b, aliases=["bee"], ipv4_address="10.75.0.99")
    n.reload()
    assert {x.name for x in n.containers} == {"pya", "pyb"}
    assert b"10.75.0.99" in a.exec_run("nslookup bee").output
    n.disconnect(b)
    assert c.networks.list(filters={"label": "of=py"})[0].id == n.id
    try:
        n.remove()
        raise AssertionError("a network in use was removed")
    except docker.errors.APIError as e:
        assert e.status_code == 403, e
    a.remove(force=True)
    b.remove(force=True)
    n.remove()


def volumes():
    v = c.volumes.create("py", labels={"of": "py"}, driver="local", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=64k"})
    x = idle(volumes={"py": {"bind": "/data", "mode": "rw"}}, mounts=[docker.types.Mount("/t", None, type="tmpfs", tmpfs_size=1 << 16)])
    assert x.exec_run("df -k /data /t").output.count(b" 64 ") >= 2
    try:
        v.remove()
        raise AssertionError("a volume in use was removed")
    except docker.errors.APIError as e:
        assert e.status_code == 409, e
    x.remove(force=True)
    assert [y.name for y in c.volumes.list(filters={"label": "of=py"})] == ["py"]
    v.remove(force=True)


def lives():
    x = idle(name="life", healthcheck={"test": ["CMD", "true"], "interval": 50_000_000}, restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
             ulimits=[docker.types.Ulimit(name="nofile", soft=64, hard=128)], cap_add=["NET_ADMIN"], dns=["9.9.9.9"], init=True,
             extra_hosts={"there": "1.2.3.4"}, sysctls={"net.ipv4.ip_forward": "1"}, shm_size="1m", pids_limit=20, log_config={"type": "json-file", "config": {"max-size": "1m"}})
    for _ in range(200):
        x.reload()
        if x.attrs["State"]["Health"]["Status"] == "healthy":
            break
        time.sleep(0.02)
    assert x.attrs["State"]["Health"]["Status"] == "healthy"
    assert x.exec_run("sh -c 'ulimit -n; cat /etc/resolv.conf /etc/hosts'").output.startswith(b"64\nnameserver 9.9.9.9")
    x.pause()
    assert c.containers.list(filters={"status": "paused"})[0].name == "life"
    x.unpause()
    assert x.top(ps_args="-eo pid,comm")["Titles"] == ["PID", "COMMAND"]
    x.kill()
    assert x.wait(condition="not-running")["StatusCode"] == 137
    x.start()
    x.stop(timeout=0)
    x.remove()
    assert c.containers.list(all=True, filters={"name": "life"}) == []
    if number >= (1, 25):
        assert c.images.prune()["SpaceReclaimed"] >= 0 and c.networks.prune() is not None and c.volumes.prune() is not None


steps = [events, stats, logs, execs, attach, files, builds, packed, networks, volumes, lives]
for step in steps:
    begin = time.time()
    step()
    print("did: %s: %.2f s" % (step.__name__, time.time() - begin))
assert c.containers.list(all=True, ignore_removed=True) == [], c.containers.list(all=True)
