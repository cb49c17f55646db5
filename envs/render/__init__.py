"""Pictures and videos of battles."""
