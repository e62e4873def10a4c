"""alloyscope: simulated electron-microscope images of nanoalloys, and the networks that read them."""
