"""What belongs to an audit: data from a remote, endpoints, the replay, the certificate."""
