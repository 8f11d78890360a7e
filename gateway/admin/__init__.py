"""The admin listener: metrics and health for operators. It never shares a socket with the data plane."""
