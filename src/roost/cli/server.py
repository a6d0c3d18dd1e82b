"""`roost server`: a real NATS server, or three, on this machine, for as long as the terminal is open.

`roost server config` prints what a server elsewhere needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from roost.cli.running import command, usage

app = typer.Typer(invoke_without_command=True)

CLUSTER_START_S = 30.0


@app.callback(invoke_without_command=True)
@command
def server(
    context: typer.Context,
    port: Annotated[
        int,
        typer.Option(metavar="PORT", help="The port; 0 for any free one. A cluster takes the next ones too."),
    ] = 4222,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep streams in this folder. Without it they are gone at the end."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="dev: fast, for development. durable: every write is on the disk before it is acknowledged, so that "
            "a power cut loses none; needs --store, and takes about 8 times as long under load (a cluster: 1.2 times).",
        ),
    ] = "dev",
    cluster: Annotated[
        int, typer.Option(metavar="N", help="Run a cluster of 3 or 5 servers; streams have three copies.")
    ] = 1,
) -> None:
    """Run a local NATS server until Ctrl-C.

    With JetStream. The first line of its output is its URL, printed when it is ready; of a cluster, the URLs of all
    servers, separated by commas. It listens on loopback only, without passwords. A server of a cluster that is killed
    is started again.

    \b
    Examples:
      roost server --store ./streams
      roost server --cluster 3 --port 0
      roost server config > nats-server.conf     (for production)
    """
    if context.invoked_subcommand is not None:
        return
    from roost.server.cluster import SIZES
    from roost.server.foreground import run, run_cluster
    from roost.server.profiles import PROFILES, options_for

    with usage():
        if cluster != 1 and cluster not in SIZES:
            raise typer.BadParameter("a cluster has 3 or 5 servers", param_hint="--cluster")
        options = options_for(
            profile, store_dir=store, port=port, start_timeout_s=CLUSTER_START_S if cluster > 1 else None
        )
    promise = f"profile {profile}: " + (
        PROFILES[profile].single if cluster == 1 else PROFILES[profile].cluster
    )
    if cluster == 1:
        raise typer.Exit(run(options, out=sys.stdout, promise=promise))
    raise typer.Exit(run_cluster(cluster, options, out=sys.stdout, promise=promise))


@app.command("config")
@command
def config(
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The server's name; another one for each server of a cluster.")
    ] = "n0",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients connect.")] = "0.0.0.0:4222",
    monitor: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server tells about itself over HTTP.")
    ] = "127.0.0.1:8222",
    store: Annotated[str, typer.Option(metavar="DIR", help="The folder of the streams.")] = "/var/lib/nats",
    max_store: Annotated[
        str, typer.Option(metavar="SIZE", help="The most that all streams may take there.")
    ] = "20GB",
    cert: Annotated[
        str, typer.Option(metavar="FILE", help="The server's certificate (PEM).")
    ] = "/etc/nats/tls/tls.crt",
    key: Annotated[
        str, typer.Option(metavar="FILE", help="Its private key (PEM).")
    ] = "/etc/nats/tls/tls.key",
    ca: Annotated[
        str, typer.Option(metavar="FILE", help="The authority that signed it (PEM).")
    ] = "/etc/nats/tls/ca.crt",
    verify_clients: Annotated[
        bool, typer.Option("--verify-clients", help="Clients need a certificate of that authority too.")
    ] = False,
    route: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A server of the cluster; once for each, this one included."),
    ] = None,
    cluster_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the other servers connect.")
    ] = "0.0.0.0:6222",
    permissions: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Users are those of this file, which `roost permissions` writes: a name beside the configuration. "
            "Without it: one user, `roost`, who may do everything.",
        ),
    ] = "",
) -> None:
    """Print a nats-server configuration for production.

    With TLS, users, limits, every write on the disk before it is acknowledged, and monitoring on loopback. It holds no
    secret: the server reads the passwords of its users `roost` and `system` from ROOST_NATS_PASSWORD and
    ROOST_NATS_SYSTEM_PASSWORD in its environment, and does not start without them. With --permissions each agent has
    a user of its own, which may do what its work needs, and ROOST_PASSWORD_<USER> is the password.

    \b
    Example:
      roost server config --store /data > nats-server.conf
      export ROOST_NATS_PASSWORD=p$(openssl rand -hex 32) ROOST_NATS_SYSTEM_PASSWORD=p$(openssl rand -hex 32)
      nats-server -t -c nats-server.conf && nats-server -c nats-server.conf

    \b
    A user for each agent:
      roost server config --permissions users.conf > nats-server.conf
      roost permissions shop.agents:packer --role worker --role caller --role admin --system > users.conf

    \b
    Three servers, this is the first:
      roost server config --name n0 --route a.internal:6222 --route b.internal:6222 --route c.internal:6222
    """
    from roost.server.production import ProductionOptions, production_config

    with usage():
        options = ProductionOptions(
            name=name,
            listen=listen,
            monitor=monitor,
            store=store,
            max_store=max_store,
            cert=cert,
            key=key,
            ca=ca,
            verify_clients=verify_clients,
            routes=tuple(route or ()),
            cluster_listen=cluster_listen,
            permissions=permissions,
        )
    sys.stdout.write(production_config(options))
