"""From a request to finished runs: plan, then execute."""
