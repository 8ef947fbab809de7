"""What the broker takes of the configuration: settings, providers of people, what counts once.

- What was presented once is remembered in a file beside the state, so that a restart forgets nothing and a
  replica knows it, too.
- Nonces of proofs have a key that lives as long as the process: a client that holds an old one is given a new
  one.
"""

from collections.abc import Mapping
from types import MappingProxyType

from authz.broker.deps import AssertionTarget, Settings, audiences_of
from authz.broker.id_token import IdentityProvider
from authz.config import Config
from authz.config_sections import ProviderConfig
from authz.services import Services
from identity.dpop_nonce import KEY_BYTES, DpopNonces

REPLAY = "replay.db"
_PLACE = "token"
_JWKS_MAX_AGE = 300


def broker_settings(config: Config, services: Services) -> Settings:
    """Return the broker's settings.

    Raises:
        ConfigError: if two services have one audience.
    """
    limits = config.limits
    return Settings(
        issuer=config.broker.issuer,
        audiences=audiences_of(services),
        assertion_targets=_assertion_targets(config),
        leeway=limits.clock_leeway_seconds,
        max_depth=limits.delegation_depth,
        delegation_token_seconds=limits.delegation_token_seconds,
        jwt_svid_seconds=limits.jwt_svid_seconds,
        x509_svid_seconds=limits.x509_svid_seconds,
        task_seconds=limits.task_seconds,
        jwks_max_age=min(_JWKS_MAX_AGE, config.identity.publish_seconds // 3),
    )


def providers(config: Config) -> list[IdentityProvider]:
    """Return the providers of people."""
    return [
        IdentityProvider(
            issuer=provider.issuer,
            audiences=frozenset(provider.audiences),
            groups_claim=provider.groups_claim,
            groups=_groups(provider, alone=len(config.providers) == 1),
            ca_file=provider.ca_file,
            allow_loopback=provider.allow_loopback,
            allow_private=provider.allow_private,
        )
        for provider in config.providers
    ]


def _groups(provider: ProviderConfig, *, alone: bool) -> frozenset[str] | None:
    """Return the groups that a provider's word counts for; None is all.

    A group is written without its provider, so of several providers each speaks of its own groups only: else
    whoever runs one of them could put people into the groups of another's operators.
    """
    if provider.groups is not None:
        return frozenset(provider.groups)
    return None if alone else frozenset()


def nonces(config: Config, entropy: bytes) -> DpopNonces | None:
    """Return the nonces of the token endpoint, None where none are asked for; `entropy` is 32 bytes."""
    return DpopNonces(entropy[:KEY_BYTES], _PLACE) if config.broker.dpop_nonces else None


def _assertion_targets(config: Config) -> Mapping[str, AssertionTarget]:
    targets = config.broker.assertion_targets
    return MappingProxyType(
        {
            target.issuer: AssertionTarget(
                target.issuer,
                target.service,
                MappingProxyType({client.agent: client.id for client in target.clients}),
            )
            for target in targets
        }
    )
