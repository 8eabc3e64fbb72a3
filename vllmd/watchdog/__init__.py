"""Who holds GPU memory, whether anybody answers for it, and the end of what nobody does.

Owns the verdict on every process that holds GPU memory or is called like vLLM's own, the watch on the parents of
the latter, the kill of proven orphans and the proof that their memory is back, and the look-out for memory that no
process holds. `verdicts` decides and does nothing; `observe`, `sockets` and `parents` find out and decide nothing;
`gather` puts together what they found; `doomed` ends one tree and `endings` all of them; `watchdog` is the loop
around them.

Refuses to know the scheduler: it is told which engines live and which GPUs are busy.
"""
