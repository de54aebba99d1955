"""Tests that may be looked at after every observation: confidence sequences, pure, numbers in and intervals out."""
