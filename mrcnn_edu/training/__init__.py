"""What the training loop (`mrcnn_edu.training.train`) is made of, one idea a module.

`order` says which images a step sees, `batches` and `loader` bring them; `schedule` and `optimizer`
follow from the recipe; `precision` and `distributed` say in what arithmetic and in how many
processes; `run_folder`, `run_log` and `stop` keep what a run has done; `validation` measures on the
way; `refusals` refuses what cannot work. Chapter 13.
"""
