"""Files of images and videos, as gateway and vision workers read them."""
