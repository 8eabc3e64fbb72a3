"""gRPC, thin: services convert, call the scheduler, and convert back.

`convert` knows both worlds' types and nothing else, `status` turns errors into `google.rpc.Status` in one
table, `server` puts the services behind their sockets.
"""
