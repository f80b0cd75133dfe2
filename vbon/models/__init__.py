"""Language models and classifiers, built or loaded, in Hugging Face's saved format."""
