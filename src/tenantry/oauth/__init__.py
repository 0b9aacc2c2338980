"""The authorization server's decisions, one subject of the RFCs a file: values in, values out, nothing waits."""
