;;; lossproof.el --- What is wrong with a training objective, as you type  -*- lexical-binding: t; -*-

;; (load "/path/to/lossproof.el") in your init file.
;;
;; With lsp-mode it runs beside your other Python server.  Eglot speaks to one server in a buffer:
;; M-x lossproof-eglot starts this one there.

;;; Code:

(defgroup lossproof nil "Faults in PyTorch training objectives." :group 'tools)

(defcustom lossproof-command '("lossproof" "lsp")
  "The command that starts the server."
  :type '(repeat string)
  :group 'lossproof)

(defcustom lossproof-options nil
  "Settings for the server, for example (:diagnostics \"open\")."
  :type 'plist
  :group 'lossproof)

(with-eval-after-load 'lsp-mode
  (lsp-register-client
   (make-lsp-client
    :new-connection (lsp-stdio-connection (lambda () lossproof-command))
    :activation-fn (lsp-activate-on "python")
    :initialization-options (lambda () (or lossproof-options (make-hash-table)))
    :add-on? t
    :server-id 'lossproof)))

(defun lossproof-eglot ()
  "Start lossproof in this buffer with Eglot."
  (interactive)
  (require 'eglot)
  (let ((contact (append lossproof-command
                         (when lossproof-options (list :initializationOptions lossproof-options)))))
    (setq-local eglot-server-programs (list (cons major-mode contact)))
    (call-interactively #'eglot)))

(provide 'lossproof)
;;; lossproof.el ends here
