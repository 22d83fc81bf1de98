"""The peers: how each is had, started and named, what it does with a message, and the ways in which it is measured."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from processes import Failed, Server, free_port

HERE = Path(__file__).parent
CONFIGS = HERE / "peers"
DURABLE_STREAMS_VERSION = "0.1.5"
CENTRIFUGO_VERSION = "v6.9.1"
# Servers of packages may be slow, and compilers are; they should not be endless.
INSTALL_S_MAX = 1_800


@dataclass(frozen=True)
class Way:
    """One protocol in which a peer's subscribers are measured."""

    protocol: str
    label: str
    # Publishes under way when flat out are spread over connections; or on one, where the protocol pipelines.
    pipelines: bool = False


@dataclass(frozen=True)
class Publishing:
    """One way to publish; `pipelines` if one connection takes many publishes before it has answered the first."""

    protocol: str
    label: str
    durable: bool = False
    pipelines: bool = False


@dataclass(frozen=True)
class Replaying:
    """One way to read what is stored, and how that gets there: by a protocol, over so many connections."""

    protocol: str
    label: str
    fill: str
    connections: int = 16
    in_flight: int = 1


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    # What an acknowledged publish means, in its configuration here.
    durability: str
    # The command, from the folder, the port of subscribers, and that of publishers.
    command: Callable[[Path, int, int], list[str]]
    # Makes it available; the version, or `Failed`.
    install: Callable[[], str]
    ways: list[Way]
    publishing: list[Publishing] = field(default_factory=list)
    replaying: list[Replaying] = field(default_factory=list)
    # Publishers have a port of their own.
    two_ports: bool = False

    def start(self, data: Path) -> "Running":
        folder = tempfile.TemporaryDirectory(prefix=f"{self.name}-", dir=data)
        port = free_port()
        publish_port = free_port() if self.two_ports else port
        command = self.command(Path(folder.name), port, publish_port)
        return Running(Server(command, sorted({port, publish_port}), folder), port, publish_port)


@dataclass(frozen=True)
class Running:
    """A peer that runs."""

    server: Server
    port: int
    publish_port: int

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    def arguments(self) -> list[str]:
        """Where the load generator finds it."""
        address = f"127.0.0.1:{self.port}"
        return ["--address", address, "--publish-address", f"127.0.0.1:{self.publish_port}"]


def with_commits(limit: Peer) -> Peer:
    """The limit program where it appends what was published to a file, and syncs that, before anybody sees it."""
    return replace(
        limit, name="limit-commits", title="limit program with commits",
        command=lambda folder, port, other: [*limit.command(folder, port, other), "--sync", str(folder / "log")],
    )


def configured(name: str, folder: Path, port: int, publish_port: int) -> str:
    """A committed configuration with its places filled in; gives the path of the copy."""
    text = (CONFIGS / name).read_text()
    for place, value in [("port", port), ("publish_port", publish_port), ("dir", folder)]:
        text = text.replace(f"@{place}@", str(value))
    (folder / name).write_text(text)
    return str(folder / name)


def all_peers(binaries: Path) -> list[Peer]:
    """All that there are, from the limit on; `binaries` is where ours were built."""
    tailwire, limit = binaries / "tailwire", binaries / "limit"
    # Where those are installed that come neither from Debian nor from npm.
    tools = binaries.parent / "peers"
    return [
        Peer(
            name="limit",
            title="limit program",
            durability="none: it stores nothing and checks nothing; it is the least that a server can do",
            command=lambda folder, port, _: [str(limit), "--listen", f"127.0.0.1:{port}", "--coalesce"],
            install=lambda: "of this revision",
            ways=[Way("tailwire-ws", "WebSocket"), Way("tailwire-sse", "SSE"), Way("tailwire-ndjson", "NDJSON")],
            publishing=[Publishing("tailwire-ws", "POST")],
        ),
        Peer(
            name="tailwire",
            title="Tailwire",
            durability="on disk: flushed before it is acknowledged, and before anybody sees it",
            command=lambda folder, port, _: [
                str(tailwire), "serve", "--listen", f"127.0.0.1:{port}", "--data", str(folder / "data"),
                "--log-level", "warn", "--max-topics", "2000000",
            ],
            install=lambda: _version([str(tailwire), "--version"]),
            ways=[
                Way("tailwire-ws", "WebSocket"), Way("tailwire-sse", "SSE"),
                Way("tailwire-ndjson", "NDJSON"), Way("tailwire-sse-http2", "SSE over HTTP/2"),
                Way("tailwire-longpoll", "long-poll"),
            ],
            publishing=[
                Publishing("tailwire-ws", "POST", durable=True),
                Publishing("tailwire-ws-publish", "WebSocket", durable=True, pipelines=True),
            ],
            replaying=[
                Replaying(f"tailwire-{name}", label, "tailwire-ws-publish", connections=4, in_flight=64)
                for name, label in [("ws", "WebSocket"), ("sse", "SSE"), ("ndjson", "NDJSON")]
            ],
        ),
        Peer(
            name="durable-streams",
            title="Durable Streams",
            durability="on disk: flushed before it is acknowledged",
            command=lambda folder, port, _: [
                str(tools / "bin/durable-streams-server"), "--port", str(port), "--data-dir", str(folder / "data"),
            ],
            install=lambda: _crate(tools, "durable-streams", DURABLE_STREAMS_VERSION),
            ways=[Way("durable-streams-sse", "SSE"), Way("durable-streams-longpoll", "long-poll")],
            publishing=[Publishing("durable-streams-sse", "POST", durable=True)],
            replaying=[Replaying("durable-streams-sse", "SSE", "durable-streams-sse")],
        ),
        Peer(
            name="centrifugo",
            title="Centrifugo",
            durability="none as configured, without history: sent, and forgotten",
            command=lambda folder, port, other: [
                str(tools / "bin/centrifugo"), "--config", configured("centrifugo.json", folder, port, other),
            ],
            install=lambda: _go(tools, "github.com/centrifugal/centrifugo/v6", CENTRIFUGO_VERSION),
            ways=[Way("centrifugo-ws", "WebSocket"), Way("centrifugo-sse", "SSE")],
            publishing=[Publishing("centrifugo-ws", "POST")],
        ),
        Peer(
            name="nchan",
            title="Nchan",
            durability="in the memory of nginx: gone when it ends",
            command=lambda folder, port, other: [
                "/usr/sbin/nginx", "-p", str(folder), "-c", configured("nginx.conf", folder, port, other),
            ],
            install=lambda: _debian("/usr/lib/nginx/modules/ngx_nchan_module.so", "libnginx-mod-nchan", "nginx"),
            ways=[Way("nchan-ws", "WebSocket"), Way("nchan-sse", "SSE"), Way("nchan-longpoll", "long-poll")],
            publishing=[Publishing("nchan-ws", "POST")],
            replaying=[
                Replaying("nchan-ws", "WebSocket", "nchan-longpoll"),
                Replaying("nchan-sse", "SSE", "nchan-longpoll"),
            ],
        ),
        Peer(
            name="ws",
            title="ws, a broadcast",
            durability="none: sent, and forgotten",
            command=lambda folder, port, _: ["node", str(CONFIGS / "ws.mjs"), str(port)],
            install=lambda: _npm("ws"),
            ways=[Way("ws", "WebSocket")],
            publishing=[Publishing("ws", "POST")],
        ),
        Peer(
            name="socketio",
            title="Socket.IO",
            durability="none: sent, and forgotten",
            command=lambda folder, port, _: ["node", str(CONFIGS / "socketio.mjs"), str(port)],
            install=lambda: _npm("socket.io"),
            ways=[Way("socketio", "WebSocket")],
            publishing=[Publishing("socketio", "POST")],
        ),
        Peer(
            name="mosquitto",
            title="Mosquitto",
            durability="none as configured: QoS 1 to the broker, QoS 0 to subscribers, nothing kept",
            command=lambda folder, port, other: [
                "/usr/sbin/mosquitto", "-c", configured("mosquitto.conf", folder, port, other),
            ],
            install=lambda: _debian("/usr/sbin/mosquitto", "mosquitto"),
            ways=[Way("mqtt", "MQTT over WebSocket")],
            publishing=[Publishing("mqtt", "MQTT")],
            two_ports=True,
        ),
        Peer(
            name="nats",
            title="NATS core",
            durability="none: sent, and forgotten",
            command=_nats_server,
            install=lambda: _debian("/usr/sbin/nats-server", "nats-server"),
            ways=[Way("nats", "NATS over WebSocket", pipelines=True)],
            publishing=[Publishing("nats", "NATS", pipelines=True)],
            two_ports=True,
        ),
        Peer(
            name="jetstream",
            title="NATS JetStream",
            durability="in the server's file, which is synced every two minutes: gone with the machine, not with the process",
            command=lambda folder, port, other: [
                *_nats_server(folder, port, other), "--jetstream", "--store_dir", str(folder / "jetstream"),
            ],
            install=lambda: _debian("/usr/sbin/nats-server", "nats-server"),
            ways=[],
            publishing=[Publishing("nats-stream", "NATS", pipelines=True)],
            replaying=[Replaying("nats-stream", "NATS over WebSocket", "nats-stream", connections=4, in_flight=64)],
            two_ports=True,
        ),
        Peer(
            name="redis",
            title="Redis",
            durability="publish/subscribe: none. Streams: on disk, flushed before it is acknowledged",
            command=lambda folder, port, other: [
                "/usr/bin/redis-server", configured("redis.conf", folder, port, other),
            ],
            install=lambda: _debian("/usr/bin/redis-server", "redis-server"),
            ways=[Way("redis", "RESP over TCP", pipelines=True)],
            publishing=[Publishing("redis-stream", "XADD", durable=True, pipelines=True)],
            replaying=[Replaying("redis-stream", "XRANGE", "redis-stream", connections=4, in_flight=64)],
        ),
    ]


def _nats_server(folder: Path, port: int, publish_port: int) -> list[str]:
    return ["/usr/sbin/nats-server", "-c", configured("nats.conf", folder, port, publish_port)]


def _debian(file: str, *packages: str) -> str:
    """Installs Debian packages unless their file is there; gives the first one's version."""
    if not Path(file).exists():
        # Run level 1: a package that wants to start its daemon finds that this is not the time for it.
        environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
        _run(["apt-get", "update", "-qq"])
        _run([*environment, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages])
    return _version(["dpkg-query", "--showformat=${Version}", "--show", packages[0]])


def _npm(package: str) -> str:
    """Installs the Node.js peers as the lock file has them, unless they are there."""
    if not shutil.which("node"):
        raise Failed("there is no Node.js here")
    installed = CONFIGS / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (CONFIGS / "package-lock.json").stat().st_mtime:
        _run(["npm", "ci", "--prefix", str(CONFIGS), "--no-audit", "--no-fund"])
    manifest = CONFIGS / "node_modules" / package / "package.json"
    version = _version(["node", "-p", f"JSON.parse(fs.readFileSync({str(manifest)!r})).version"])
    return f"{version} on Node.js {_version(['node', '--version'])}"


def _crate(tools: Path, name: str, version: str) -> str:
    """Builds the binary of a Rust crate, unless that is done in this version."""
    known = tools / ".crates.toml"
    if not known.exists() or f'"{name} {version} (' not in known.read_text():
        _run(["cargo", "install", name, "--version", version, "--locked", "--root", str(tools),
              "--target-dir", str(tools / "build")])
        shutil.rmtree(tools / "build", ignore_errors=True)
    return version


def _go(tools: Path, module: str, version: str) -> str:
    """Builds the binary of a Go module, unless that is done in this version."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    binary = tools / "bin" / module.removesuffix("/v6").rsplit("/", 1)[-1]
    if not binary.exists() or f"\t{version}\t" not in _run([go, "version", "-m", str(binary)]):
        _run(["env", f"GOBIN={binary.parent}", "GOFLAGS=-buildvcs=false", go, "install", f"{module}@{version}"])
    return version


def _version(command: list[str]) -> str:
    return _run(command).strip().removeprefix("tailwire ")


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"`{' '.join(command)}`: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"`{' '.join(command)}`: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout
