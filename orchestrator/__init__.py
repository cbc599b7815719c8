"""The testnet tool: an Ansible inventory goes in; a running Stratos testnet, measured traffic and audited rewards come out."""

__version__ = "0.2.0"
