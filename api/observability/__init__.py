"""What an operator watches: metrics of requests, decisions, children and what lags behind."""
