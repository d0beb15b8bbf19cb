"""The jails that this folder's tests share."""

from jailed import close_jails, each_jail, jail  # noqa: F401  (fixtures)
