"""The demo: a whole fleet on this machine, real processes in a directory that is thrown away.

`fleet` starts and ends it, `script` drives it as plain lines, `warden` sees to it that nothing is left behind.
"""
