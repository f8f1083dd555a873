"""People's own digits: pictures and photographs, made into what MNIST's images are."""
