"""Floor 5: functions and modules that networks are made of."""
