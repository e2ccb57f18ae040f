package command

// Version is that of the programs.
const Version = "0.1.0"
