"""The life of API keys: minted, issued under rules, listed without their secret, revoked; each step is history."""
