"""What scenarios compute with: compiled inner loops of solvers, random fields."""
