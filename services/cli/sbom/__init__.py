"""The software bill of materials: the packages, libraries and licences of an installation."""
