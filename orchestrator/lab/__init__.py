"""Labs: machines in containers on one engine, on which fleets are rehearsed, tested and measured without real machines.

A lab machine is a container that boots systemd and runs sshd, sudo and an engine of its own, on the lab's own bridge network, with a
fixed address. What a fleet needs to reach it (a key pair, known hosts, an inventory) is made here, before the machine boots, so the
first connection is already checked strictly. Nothing else in the tool knows of labs: to Ansible and SSH they are machines.
"""
