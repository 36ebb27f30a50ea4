"""What a program does with Docker's Python client: client.py SOCKET VERSION ARCHIVE"""
import io
import sys
import tarfile

import docker

socket, version, archive = sys.argv[1:]
c = docker.DockerClient(base_url="unix://" + socket, version=version, timeout=30)
assert c.ping()
assert c.info()["Images"] >= 1
assert c.version()["Components"]
with open(archive, "rb") as f:
    images = c.images.load(f)
assert images[0].tags == ["kist.test/busybox:latest"], images[0].tags
assert "up" in [x.name for x in c.containers.list()]

assert c.containers.run("kist.test/busybox", ["echo", "hello"], remove=True) == b"hello\n"

# A build, by the endpoint of docker's classic builder.
built, lines = c.images.build(fileobj=io.BytesIO(b"FROM kist.test/busybox\nARG A\nRUN echo $A >/a\nCMD cat /a\n"), tag="py:built", buildargs={"A": "of python"})
assert built.tags == ["py:built"], built.tags
assert any(x.get("stream", "").startswith("Step 3/4 : RUN") for x in lines)
assert c.containers.run("py:built", remove=True) == b"of python\n"
try:
    c.images.build(fileobj=io.BytesIO(b"FROM kist.test/busybox\nRUN exit 5\n"))
    raise AssertionError("no error")
except docker.errors.BuildError as e:
    assert "returned a non-zero code: 5" in e.msg, e.msg
c.images.remove("py:built")
try:
    c.containers.run("kist.test/busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    raise AssertionError("no error")
except docker.errors.ContainerError as e:
    assert e.exit_status == 3 and e.stderr == b"bad\n", e
try:
    c.containers.get("nosuch")
    raise AssertionError("no error")
except docker.errors.NotFound:
    pass
try:
    c.images.get("nosuch")
    raise AssertionError("no error")
except docker.errors.ImageNotFound:
    pass

x = c.containers.run("kist.test/busybox", ["sh", "-c", "echo started; sleep 1000"], detach=True, name="py", labels={"a": "b"},
                     ports={"80/tcp": ("127.0.0.1", None)}, volumes={"pydata": {"bind": "/data", "mode": "rw"}},
                     environment={"K": "v"}, mem_limit="64m", cpu_period=100000, cpu_quota=50000, tmpfs={"/run": "size=1m"})
assert x.status == "created"
x.reload()
assert x.status == "running"
assert x.ports["80/tcp"][0]["HostIp"] == "127.0.0.1", x.ports
assert x.attrs["NetworkSettings"].get("IPAddress") or x.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
assert x.labels == {"a": "b"}
for line in x.logs(stream=True, follow=True):
    assert line == b"started\n", line
    break
code, out = x.exec_run(["sh", "-c", "echo $K; exit 4"])
assert (code, out) == (4, b"v\n"), (code, out)
code, out = x.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
assert out == (b"o\n", b"e\n"), out
assert x.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
assert x.top()["Processes"]
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w") as t:
    info = tarfile.TarInfo("f")
    info.size = 3
    t.addfile(info, io.BytesIO(b"abc"))
assert x.put_archive("/tmp", data.getvalue())
chunks, stat = x.get_archive("/tmp/f")
with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as t:
    assert t.extractfile("f").read() == b"abc"
assert stat["name"] == "f" and stat["size"] == 3
assert {"Path": "/tmp/f", "Kind": 1} in x.diff()
x.pause()
x.reload()
assert x.status == "paused"
x.unpause()
x.rename("py2")
x.update(mem_limit="32m", memswap_limit="64m")
x.restart(timeout=0)
x.stop(timeout=0)
assert x.wait()["StatusCode"] == 137
image = x.commit("kist.test/py", "1")
assert image.tags == ["kist.test/py:1"]
x.remove(v=True)
c.images.remove("kist.test/py:1")
c.volumes.get("pydata").remove()
assert [n.name for n in c.networks.list(names=["bridge"])] == ["bridge"]
if version != "1.24":
    assert c.containers.prune()["SpaceReclaimed"] >= 0
if version == "1.41":  # Later versions have another shape, which this client does not know.
    assert c.df()["Images"]
