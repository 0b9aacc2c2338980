"""Black-box tests of an MCP server over HTTP, keyed by clause; README.md says how to run and how to write them."""
