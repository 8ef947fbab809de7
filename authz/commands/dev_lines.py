"""What `deputy serve --dev` says when it is ready: what is where, and what to type next."""

import shlex
from pathlib import Path
from typing import Final

from authz.dev import ENVOY_LISTEN, Dev
from authz.errors import ConfigError
from authz.mesh.envoy_process import find_envoy

_LINES: Final = """\
  configuration  {config}
  grants         {grants} (read again when the file changes)
  data           {data} (keys, state, audit log)
  runner         {runner} ({runner_id})
  Envoy          {envoy_file}
                 https://localhost:{envoy_port}, {routes}

start Envoy:
  {envoy} --disable-hot-restart --config-path {q_envoy_file}

start a task, as a runner of agents does, and get its certificate:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout task.key -out task.csr
  python3 -c 'import json; print(json.dumps({{"agent": "nightly-report", "csr": open("task.csr").read()}}))' |
    curl --cacert {q_roots} --cert {q_cert} --key {q_key} \\
      --json @- {broker}/tasks

see what is decided:
  deputy decisions watch --config {q_config}"""


def dev_lines(dev: Dev) -> list[str]:
    """Return the lines; paths in commands are quoted for a shell."""
    config, runner = dev.directory / "deputy.yaml", dev.runner
    routes = [f"/{service.name}/ to {service.upstream}" for service in dev.envoy_settings().services]
    port = dev.config.broker.listen.rpartition(":")[2]
    text = _LINES.format(
        config=config,
        grants=dev.config.policy.grants,
        data=dev.config.data_dir,
        runner=runner.certificate.parent,
        runner_id=runner.spiffe_id,
        envoy_file=dev.envoy_file,
        envoy_port=ENVOY_LISTEN.port,
        routes=", ".join(routes),
        envoy=_envoy(),
        broker=f"https://{dev.config.broker.names[0]}:{port}",
        q_envoy_file=_quoted(dev.envoy_file),
        q_roots=_quoted(runner.roots),
        q_cert=_quoted(runner.certificate),
        q_key=_quoted(runner.key),
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
