"""Hours of ordinary use in minutes, and what they leave behind."""
