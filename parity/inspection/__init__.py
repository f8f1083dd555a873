"""What a TF1 artefact holds, in the words of a person who has to port it."""
