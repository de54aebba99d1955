"""`edgeward bench peers`: other people's servers, each in a virtual environment of its own, measured beside ours.

`catalogue` names them and what each is asked; `environments` installs them under EDGEWARD_HOME/peers; `<peer>_server.py` are
programs for those environments: they import the peer and nothing of ours. Nothing of a peer enters our dependencies.
"""
