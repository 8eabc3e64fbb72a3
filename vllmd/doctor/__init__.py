"""What keeps this host from running engines, found before they fail: the room of `vllmd-cli doctor`.

`facts` looks, changes nothing and needs no daemon and no root; what it can't see is `None`. The modules here judge what
it saw: pure functions of facts, so that a host we don't have is a value in a test. `examine` puts the two together for
the settings that the daemon would read.
"""
