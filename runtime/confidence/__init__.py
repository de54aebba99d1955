"""How sure a classifier may be called: calibrated confidence, and the threshold that holds a wished-for risk. Pure numpy."""
