"""The reference's draws and what is made of them: rewards, log F, pairs."""
