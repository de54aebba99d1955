"""The edge agent: predicts on this device, lets the cloud answer when it must, and says which and why."""
