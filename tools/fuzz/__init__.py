"""Standing guards: damaged model files, odd values in graphs, and kills while a training saves; every case repeats by its number."""
