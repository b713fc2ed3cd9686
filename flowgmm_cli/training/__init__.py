"""From tensors to a trained model: step, loop, checkpoints, calibration."""
