"""Everything MLflow: tracking, packaging, registration and promotion."""
