"""The desktop's programs: started when they are ready, watched, stopped with all they have started."""
