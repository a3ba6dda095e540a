"""Locomotion in MuJoCo: Gymnasium's bodies and tasks, version 5, and families of tasks for them."""
