"""What `deputy serve --dev` says when it is ready: what is where, and what to type next."""

import shlex
from pathlib import Path
from typing import Final

from authz.dev import ENVOY_LISTEN, Dev, runner_socket
from authz.errors import ConfigError
from authz.mesh.envoy_process import find_envoy

_LINES: Final = """\
  configuration  {config}
  grants         {grants} (read again when the file changes)
  data           {data} (keys, state, audit log)
  runner         {runner} (its identity and its tasks)
  Envoy          {envoy_file}
                 https://localhost:{envoy_port}, {routes}

start Envoy:
  {envoy} --disable-hot-restart --config-path {q_envoy_file}

be the runner of agents for ten minutes:
  deputy identity fetch --socket {q_socket} --write {q_files}

start a task as that runner, and get its certificate:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout task.key -out task.csr
  python3 -c 'import json; print(json.dumps({{"agent": "nightly-report", "csr": open("task.csr").read()}}))' |
    curl --cacert {q_files}/roots.pem --cert {q_files}/svid.pem --key {q_files}/key.pem \\
      --json @- {broker}/tasks

see what is decided:
  deputy decisions watch --config {q_config}"""


def dev_lines(dev: Dev) -> list[str]:
    """Return the lines; paths in commands are quoted for a shell."""
    config, runner = dev.directory / "deputy.yaml", runner_socket(dev.directory)
    routes = [f"/{service.name}/ to {service.upstream}" for service in dev.envoy_settings().services]
    port = dev.config.broker.listen.rpartition(":")[2]
    text = _LINES.format(
        config=config,
        grants=dev.config.policy.grants,
        data=dev.config.data_dir,
        runner=runner,
        envoy_file=dev.envoy_file,
        envoy_port=ENVOY_LISTEN.port,
        routes=", ".join(routes),
        envoy=_envoy(),
        broker=f"https://{dev.config.broker.names[0]}:{port}",
        q_envoy_file=_quoted(dev.envoy_file),
        q_socket=shlex.quote(f"unix://{runner}"),
        q_files=_quoted(dev.directory / "workloads" / "runner"),
        q_config=_quoted(config),
    )
    return text.splitlines()


def _envoy() -> str:
    try:
        return _quoted(find_envoy())
    except ConfigError:
        return "envoy"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
