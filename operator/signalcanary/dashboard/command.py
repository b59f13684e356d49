"""`signalcanary dashboard`: serve the page until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from signalcanary.console.access import Access, AccessError, open_access
from signalcanary.dashboard.live import Cluster
from signalcanary.dashboard.past import Past, Read, read_service, read_url
from signalcanary.dashboard.server import Dashboard

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
LOOPBACK: Final = "127.0.0.1"


def run_dashboard(args: argparse.Namespace) -> int:
    """The verb; gives its exit code."""
    try:
        asyncio.run(_serve(args))
    except AccessError as error:
        print(f"signalcanary dashboard: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(
            f"signalcanary dashboard: port {args.port}: {error.strerror}: choose another by "
            "--port, or none",
            file=sys.stderr,
        )
        return FAILED
    except ValueError as error:
        print(f"signalcanary dashboard: --prometheus: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED


async def _serve(args: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(open_access(args))
        past = Past(_prometheus(args.prometheus, access))
        stack.push_async_callback(past.close)
        # Whoever may not even read is told so here, and not by an empty page.
        await access.list_all(everywhere=args.all_namespaces)
        cluster = Cluster(access, everywhere=args.all_namespaces)
        token = secrets.token_urlsafe(32)
        runner = web.AppRunner(
            Dashboard(cluster, past, token).build_app(),
            access_log=None,  # its lines would hold the token
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, LOOPBACK, args.port)
        await site.start()
        port = runner.addresses[0][1]
        print(f"http://{LOOPBACK}:{port}/{token}/", flush=True)
        print(
            f"shows {access.where} with your rights, to whoever has this address; Ctrl-C ends it",
            file=sys.stderr,
        )
        await cluster.follow()


def _prometheus(named: str | None, access: Access) -> Read | None:
    if named is None:
        return None
    return read_url(named) if "://" in named else read_service(access, named)
