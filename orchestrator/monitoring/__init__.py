"""What Prometheus and Grafana are told about a testnet: whom to scrape, and which names the queries may use."""
